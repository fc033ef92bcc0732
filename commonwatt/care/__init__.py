"""How a controller is cared for over its line to the utility: it joins, renews its certificates and is upgraded."""
