"""The clock, the memory meter and the bill. The harness owns them; a Method only names spans."""
