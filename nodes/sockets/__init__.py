"""What goes into nodes and comes out: sockets, inputs that several share, what their widgets mean."""
