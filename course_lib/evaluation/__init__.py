"""What recognisers wrote → which is better, by how much, how sure, and is that luck?"""
