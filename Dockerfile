# step_ros on an apt ROS 2.
#
#   docker build -t step_ros .                                   processor only (the default stage)
#   docker build -t step_ros:cuda --target cuda .                with CUDA: run with --gpus all
#   docker build --build-arg ROS_DISTRO=humble -t step_ros .     another distribution
#
#   docker run --rm --net=host --ipc=host step_ros \
#       ros2 launch step_ros perception.launch.py image_topics:=/camera/image_raw
#
# --net=host and --ipc=host let the container take part in discovery and shared memory.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base AS base
SHELL ["/bin/bash", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1
WORKDIR /workspace
# What changes seldom comes first, so that an edited source file does not install everything anew.
COPY package.xml src/step_ros/
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip g++ \
    && rosdep update --rosdistro ${ROS_DISTRO} \
    && rosdep install --from-paths src --ignore-src -y --skip-keys "python3-timm-pip python3-rosbags-pip" \
    && rm -rf /var/lib/apt/lists/*
COPY requirements src/step_ros/requirements

# The index of torch's CPU wheels spares 4 GB of CUDA: --build-arg TORCH_INDEX=<address>.
FROM base AS packages-cpu
ARG TORCH_INDEX=
RUN if [ -n "${TORCH_INDEX}" ]; then pip install torch torchvision --index-url "${TORCH_INDEX}"; fi \
    && pip install -r src/step_ros/requirements/without-rosdep.txt \
        -r src/step_ros/requirements/openvino.txt

# torch's wheels of PyPI bring CUDA with them; the driver comes from the host.
FROM base AS packages-cuda
RUN pip install -r src/step_ros/requirements/without-rosdep.txt
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM packages-cuda AS cuda
COPY . src/step_ros
RUN source /opt/ros/${ROS_DISTRO}/setup.bash && colcon build --packages-select step_ros
COPY scripts/docker_entrypoint.sh /
ENTRYPOINT ["/docker_entrypoint.sh"]
CMD ["ros2", "launch", "step_ros", "perception.launch.py", "device:=cuda"]

FROM packages-cpu AS cpu
COPY . src/step_ros
RUN source /opt/ros/${ROS_DISTRO}/setup.bash && colcon build --packages-select step_ros
COPY scripts/docker_entrypoint.sh /
ENTRYPOINT ["/docker_entrypoint.sh"]
CMD ["ros2", "launch", "step_ros", "perception.launch.py"]
