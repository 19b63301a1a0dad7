"""What `cognu doctor` looks at: `finding` says what a check is, the others are tables of checks."""
