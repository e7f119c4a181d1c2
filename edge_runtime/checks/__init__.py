"""What an operator asks of a machine and a bundle before trusting them: bench, doctor, verify."""
