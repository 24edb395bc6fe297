"""What users do: each operation is one change and its event, together or not at all."""
