"""What runs on a pool's nodes. Files here are uploaded as they are; they import nothing of ours."""
