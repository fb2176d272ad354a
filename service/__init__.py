"""The HTTP service: loads published versions and answers requests. Never imports training code."""
