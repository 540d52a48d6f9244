"""Reading and writing rosbag2 files without ROS."""
