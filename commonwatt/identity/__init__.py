"""Who a device is: tokens, certificates, the authority that issues them."""
