"""rocketnpu: an open toolchain for the NPU of the Rockchip RK3588."""
