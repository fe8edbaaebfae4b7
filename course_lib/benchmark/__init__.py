"""How fast each part is on this machine: python -m course_lib.benchmark"""
