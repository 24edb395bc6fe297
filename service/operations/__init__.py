"""Operations: each commits one change and its event together, or nothing."""
