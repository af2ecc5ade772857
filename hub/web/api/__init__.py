"""The hub's interface for machines over HTTP: parts go up and come down, authorised by grants.

Every answer that is not what was asked for is `application/problem+json` (`schemas/problem_details.py`).
"""
