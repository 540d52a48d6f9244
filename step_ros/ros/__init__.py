"""Everything that knows rclpy."""
