"""Setup of a street: five steps in the browser that write the site file; the same parts change it later."""
