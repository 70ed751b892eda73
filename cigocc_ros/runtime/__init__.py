"""Run the exported network without ROS and without torch: preprocess, engine, postprocess."""
