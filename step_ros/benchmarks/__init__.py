"""What things cost, without ROS."""
