"""Bills: computed, proven, documented, issued, corrected."""
