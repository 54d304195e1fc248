"""Thousands of bad inputs: is one of them answered by a traceback, a silence or a lie?"""
