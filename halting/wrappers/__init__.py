"""Rules around a rule: they restrict when it may halt, make a sequence halt as one, or take the
exit over."""
