"""The database below the store of decisions: its tables, how it is made and opened, what its errors mean."""
