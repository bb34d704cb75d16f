"""The settings of the tests' Django: what a new project has, without a database."""

ALLOWED_HOSTS = ["*"]
LOGGING_CONFIG = None
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tests.integrations.in_django.LookupErrors",
]
ROOT_URLCONF = "tests.integrations.in_django"
SECRET_KEY = "only-of-the-tests"  # noqa: S105
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
