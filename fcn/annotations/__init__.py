"""Annotations of labelling tools, read and drawn as masks: LabelMe, COCO, CVAT and Label Studio."""
