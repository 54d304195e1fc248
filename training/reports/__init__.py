"""`ponder report`: was learned halting worth it?"""
