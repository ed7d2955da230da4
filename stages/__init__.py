"""The byte stages that come with mpp, and the work item that they share; nothing is imported here."""
