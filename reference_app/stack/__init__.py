"""The stack of docker-compose.yml as local processes: see `python -m reference_app.stack`."""
