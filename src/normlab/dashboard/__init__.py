"""The W&B workspace and report that `normlab dashboard` creates."""
