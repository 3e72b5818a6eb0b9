"""Warp-specialised matrix products for sm_90a: TMA producers, mbarrier rings and wgmma consumers."""
