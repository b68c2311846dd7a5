"""What gives a result away: rows that an object saw, copies, columns that tell the label, masks and encoders."""
