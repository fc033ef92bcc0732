"""The care of controllers, measured: joined, renewed over years, recorded, upgraded while things fail."""
