"""What people change at gateways: previewed, sent, put back."""
