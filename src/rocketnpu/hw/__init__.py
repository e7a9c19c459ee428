"""What is true of the silicon: registers, command words, layouts, arithmetic and limits. Imports nothing above it."""
