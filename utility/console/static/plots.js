// Draws the figures with data-plot (see the macro `plot`).
"use strict";
