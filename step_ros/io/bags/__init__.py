"""Read and write rosbag2 files without ROS."""
