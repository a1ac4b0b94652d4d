"""What files hold of images: score maps, labels, masks. A file for each kind; who needs it imports its library."""
