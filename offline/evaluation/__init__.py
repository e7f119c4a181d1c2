"""What scores are worth: metrics, intervals, baselines and ceilings."""
