"""Everything that knows rclpy: nodes, parameters, QoS and message conversion."""
