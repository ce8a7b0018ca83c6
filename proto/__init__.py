"""The words spoken between processes: `.proto` files and the stubs generated beside them."""
