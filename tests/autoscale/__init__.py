"""The chart's own scaling rules close the loop: real workers come and go, and no work is lost."""
