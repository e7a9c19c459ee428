"""Running programs: sessions, devices, and what moves between host and device."""
