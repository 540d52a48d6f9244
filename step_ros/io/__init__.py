"""Video and rosbag2 files."""
