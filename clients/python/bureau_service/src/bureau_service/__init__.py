"""Calls Bureau services from a sandbox, and writes them."""

from .client import ServiceError, call
from .service import Caller, Refused, Service

__all__ = ["Caller", "Refused", "Service", "ServiceError", "call"]
