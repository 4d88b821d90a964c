"""Readers of runs that anybody logged: tables, W&B, TensorBoard, MLflow, Lightning, and normlab itself."""
