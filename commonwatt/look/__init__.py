"""How Commonwatt looks wherever it is shown: colours and the picture of power."""
