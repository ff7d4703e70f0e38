"""What people have: classes and labelled images of every layout."""
