"""The main job on the shipped example: a mixture beside full HF, in numbers and pictures."""
