"""Bills as people read them: explained, printed, as tables, and as a receipt that anybody can check (U2): pure."""
