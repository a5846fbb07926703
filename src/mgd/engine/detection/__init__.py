"""Detection: runs of networks that find boxes, on the same loop as those that name classes."""
