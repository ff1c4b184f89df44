"""The management plane: a small FastAPI application under `/api/v1`, for operators and tools."""
