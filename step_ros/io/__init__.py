"""Files: video and rosbag2."""
