"""Every writer under kills, full disks, lack of memory and clocks that jump.  Run it:  python -m bench.faults"""
