"""The program: all rooms put together as one service, one application and one command line."""
