"""What is wrong here and which command mends it: every check of `cigocc doctor`."""
