"""The app for any ASGI server: `uvicorn reference_app.app:app`, set up from the environment.

Rule: importing this is cheap; torch and the models come in when the lifespan starts.
"""

from reference_app.factory import create_app
from reference_app.logs import configure_logging
from reference_app.settings import Settings

__all__ = ["app", "create_app"]

_settings = Settings.from_environment()
configure_logging(_settings)
app = create_app(_settings)
